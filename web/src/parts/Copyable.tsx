import { useEffect, useState } from 'react';
import { Icon } from './Icon';

interface Props {
  label: string;
  text: string;
  link?: boolean;
}

const SHOWN_MS = 2000;

/** Something to take elsewhere: shown whole, copied by a button. */
export function Copyable({ label, text, link }: Props) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <div className="copyable">
      <span className="copyable-label">{label}</span>
      <code>
        {link ? (
          <a href={text} target="_blank" rel="noreferrer">
            {text}
          </a>
        ) : (
          text
        )}
      </code>
      <button
        type="button"
        className="icon-button"
        aria-label={`Copy ${label.toLowerCase()}`}
        onClick={() => void navigator.clipboard.writeText(text).then(() => setCopied(true))}
      >
        <Icon name={copied ? 'check' : 'copy'} />
      </button>
      <span className="hidden-words" role="status">
        {copied ? 'Copied' : ''}
      </span>
    </div>
  );
}
