/** A round mark with the first letters of a name; the name stands beside it. */
export function Avatar({ name }: { name: string }) {
  const words = name.replace(/@.*/, '').split(/[\s._-]+/).filter((word) => /[\p{L}\p{N}]/u.test(word));
  const letters = words.slice(0, 2).map((word) => [...word][0] ?? '');
  return (
    <span className="avatar" aria-hidden="true">
      {name.startsWith('+') ? '#' : letters.join('').toLocaleUpperCase() || '?'}
    </span>
  );
}
