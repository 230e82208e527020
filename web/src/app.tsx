import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { Link, Route, Switch, useLocation } from 'wouter';
import { AccountPage } from './account/AccountPage';
import { DevicePage } from './devices/DevicePage';
import { DevicesPage } from './devices/DevicesPage';
import { useBeginnings } from './devices/devices';
import { Me } from './generated';
import { InboxPage } from './inbox/InboxPage';
import { useInvitations } from './inbox/invitations';
import { useUnread } from './inbox/notices';
import { ask } from './lib/graphql';
import { useLive } from './lib/live';
import { page } from './lib/page';
import { Icon, type IconName } from './parts/Icon';
import { Empty } from './parts/Notice';
import { turnPushOff } from './push/push';
import { Confirmation } from './share/Confirmation';
import { keptOperation } from './share/operation';
import { SharingPage } from './sharing/SharingPage';

export function useMe() {
  return useQuery({ queryKey: ['me'], queryFn: async () => (await ask(Me)).login });
}

/** The whole app: where one is, and the bulk share that a reload has interrupted. */
export function App() {
  const connected = useLive();
  useBeginnings();
  const [interrupted, setInterrupted] = useState(keptOperation);
  return (
    <>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <Top />
      {!connected && (
        <p className="offline" role="status">
          Connection lost. What you see may be old; trying again…
        </p>
      )}
      <main id="main" tabIndex={-1}>
        <Switch>
          <Route path="/" component={DevicesPage} />
          <Route path="/devices/:id">{({ id }) => <DevicePage key={id} id={decodeURIComponent(id)} />}</Route>
          <Route path="/inbox" component={InboxPage} />
          <Route path="/sharing/:part?">{({ part }) => <SharingPage part={part ?? 'people'} />}</Route>
          <Route path="/account" component={AccountPage} />
          <Route>
            <Empty page title="There is nothing at this address." />
          </Route>
        </Switch>
      </main>
      {interrupted && <Confirmation operation={interrupted} onClose={() => setInterrupted(null)} />}
    </>
  );
}

function Top() {
  const { data: me } = useMe();
  const invitations = useInvitations();
  const unread = useUnread().data?.length ?? 0;
  const open = invitations.isPending ? [] : invitations.invitations.filter((item) => !item.later);
  const waiting = unread + open.length;
  return (
    <header className="top">
      <div className="bar">
        <Link className="brand" href="/">
          <img src="/static/icon.svg" alt="" width="28" height="28" />
          <span>Latchkey</span>
        </Link>
        <nav aria-label="Main">
          <Tab href="/" icon="devices" label="Devices" also="/devices/" />
          <Tab href="/inbox" icon="inbox" label="Inbox" badge={waiting} />
          <Tab href="/sharing" icon="people" label="Sharing" also="/sharing/" />
          <Tab href="/account" icon="account" label="Account" />
        </nav>
        <form className="who" method="post" action="/auth/logout" onSubmit={signOut}>
          <bdi className="who-name" title={me?.email ?? ''}>
            {me?.name ?? me?.email}
          </bdi>
          <input type="hidden" name="csrf" value={page.csrf} />
          <input type="hidden" name="next" value="/" />
          <button type="submit" className="quiet">
            Sign out
          </button>
        </form>
      </div>
    </header>
  );
}

/** What is told to who signs out here is not for who comes next. */
function signOut(event: FormEvent<HTMLFormElement>) {
  event.preventDefault();
  const form = event.currentTarget;
  void turnPushOff()
    .catch(() => undefined)
    .finally(() => form.submit());
}

interface TabProps {
  href: string;
  icon: IconName;
  label: string;
  also?: string;
  badge?: number;
}

function Tab({ href, icon, label, also, badge = 0 }: TabProps) {
  const [path] = useLocation();
  const here = path === href || Boolean(also && path.startsWith(also));
  return (
    <Link className="tab" href={href} aria-current={here ? 'page' : undefined}>
      <Icon name={icon} />
      <span>{label}</span>
      {badge > 0 && (
        <span className="badge">
          {badge}
          <span className="hidden-words"> waiting</span>
        </span>
      )}
    </Link>
  );
}
