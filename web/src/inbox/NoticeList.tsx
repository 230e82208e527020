import { Link } from 'wouter';
import { useDevices } from '../devices/devices';
import { moment } from '../lib/words';
import { Loading, Problem } from '../parts/Notice';
import { type Notice, noticeInWords, useMark, useNotices, useUnread } from './notices';

/** Everything that the caller was told, with what was not read yet told apart. */
export function NoticeList() {
  const { notices, error, isPending, hasNextPage, isFetching, fetchNextPage } = useNotices();
  const unread = useUnread();
  const mark = useMark();
  const waiting = unread.data ?? [];
  return (
    <section aria-labelledby="notices-heading">
      <div className="card-head notices-head">
        <h2 id="notices-heading">Notices</h2>
        {waiting.length > 0 && (
          <button
            type="button"
            className="small"
            disabled={mark.isPending}
            onClick={() => mark.mutate({ ids: waiting.map((notice) => notice.id), mark: 'READ' })}
          >
            Mark all as read
          </button>
        )}
      </div>
      <Problem error={error ?? mark.error} />
      {isPending && <Loading what="your notices" />}
      {!isPending && !error && !notices.length && <p className="soft">Nothing was told yet.</p>}
      {notices.length > 0 && (
        <ul className="card notices" aria-label="Notices">
          {notices.map((notice) => (
            <Line
              key={notice.id}
              notice={notice}
              onMark={(read) => mark.mutate({ ids: [notice.id], mark: read ? 'READ' : 'UNREAD' })}
            />
          ))}
        </ul>
      )}
      {hasNextPage && (
        <button type="button" className="small more" disabled={isFetching} onClick={() => void fetchNextPage()}>
          Show more
        </button>
      )}
    </section>
  );
}

function Line({ notice, onMark }: { notice: Notice; onMark: (read: boolean) => void }) {
  const devices = useDevices();
  const known = devices.data?.some((device) => device.id === notice.deviceId);
  const words = noticeInWords(notice);
  return (
    <li className={notice.read ? 'notice' : 'notice unread'}>
      <div className="share-words">
        <p>
          {!notice.read && <span className="hidden-words">Unread: </span>}
          {known ? (
            <Link
              href={`/devices/${encodeURIComponent(notice.deviceId)}`}
              onClick={() => !notice.read && onMark(true)}
            >
              <bdi>{words}</bdi>
            </Link>
          ) : (
            <bdi>{words}</bdi>
          )}
        </p>
        <p className="soft">
          <time dateTime={notice.at}>{moment(notice.at)}</time>
        </p>
      </div>
      <button
        type="button"
        className="quiet small"
        aria-label={`Mark as ${notice.read ? 'unread' : 'read'}: ${words}`}
        onClick={() => onMark(!notice.read)}
      >
        {notice.read ? 'Mark unread' : 'Mark read'}
      </button>
    </li>
  );
}
