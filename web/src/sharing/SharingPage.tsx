import { Link } from 'wouter';
import { useTitle } from '../parts/useTitle';
import { ByDevice } from './ByDevice';
import { ByPerson } from './ByPerson';
import { Connected } from './Connected';

const PARTS = [
  ['people', 'By person'],
  ['devices', 'By device'],
  ['connected', 'Connected now'],
] as const;

/** Manage Sharing: everything that the caller gives. */
export function SharingPage({ part }: { part: string }) {
  useTitle('Sharing');
  return (
    <>
      <div className="page-head">
        <h1>Manage Sharing</h1>
      </div>
      <nav className="parts" aria-label="Manage Sharing">
        {PARTS.map(([name, words]) => (
          <Link key={name} href={`/sharing/${name}`} aria-current={name === part ? 'page' : undefined}>
            {words}
          </Link>
        ))}
      </nav>
      {part === 'devices' ? <ByDevice /> : part === 'connected' ? <Connected /> : <ByPerson />}
    </>
  );
}
