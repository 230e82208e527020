// What the caller was told, and how it reads.
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { type InboxMark, MarkNotices, type NoticeFragment, Notices, type NoticesQuery, UnreadNotices } from '../generated';
import { ask } from '../lib/graphql';
import { moment } from '../lib/words';
import { INVITING } from './invitations';

export type Notice = NoticeFragment;
type Page = NonNullable<NoticesQuery['login']>['inbox'];

export const NOTICES_KEY = ['notices'];
const MOST_AT_ONCE = 1000; // marks

/** An open invitation stands in the inbox as a card of its own, to be answered. */
function isTold({ kind, open }: Notice): boolean {
  return !(open && INVITING.has(kind));
}

/** All notices, the newest first, page by page. */
export function useNotices() {
  const pages = useInfiniteQuery({
    queryKey: [...NOTICES_KEY, 'all'],
    queryFn: async ({ pageParam }): Promise<Page> => {
      const { login } = await ask(Notices, { after: pageParam });
      return login?.inbox ?? { items: [], next: null };
    },
    initialPageParam: null as string | null,
    getNextPageParam: (last) => last.next,
  });
  return { ...pages, notices: (pages.data?.pages.flatMap((page) => page.items) ?? []).filter(isTold) };
}

/** Those that were not read, at most a hundred. */
export function useUnread() {
  return useQuery({
    queryKey: [...NOTICES_KEY, 'unread'],
    queryFn: async () => (await ask(UnreadNotices)).login?.inbox.items ?? [],
    select: (items) => items.filter(isTold),
  });
}

/** Mark notices as read or unread. */
export function useMark() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async ({ ids, mark }: { ids: readonly string[]; mark: InboxMark }) => {
      for (let from = 0; from < ids.length; from += MOST_AT_ONCE)
        await ask(MarkNotices, { ids: ids.slice(from, from + MOST_AT_ONCE), mark });
    },
    onSettled: () => client.invalidateQueries({ queryKey: NOTICES_KEY }),
  });
}

/** An invitation that was answered has been read. */
export function useAnswered(): (shareId: string) => Promise<void> {
  const client = useQueryClient();
  return async (shareId) => {
    const items = (await ask(UnreadNotices)).login?.inbox.items ?? [];
    const ids = items.filter((item) => item.shareId === shareId).map((item) => item.id);
    if (ids.length) await ask(MarkNotices, { ids, mark: 'READ' });
    await client.invalidateQueries({ queryKey: NOTICES_KEY });
  };
}

/** A notice as one sentence. */
export function noticeInWords(notice: Notice): string {
  const device = notice.deviceName ?? 'a device';
  const sharer = notice.sharerName ?? 'Somebody';
  const invited = notice.recipient ?? 'Somebody';
  switch (notice.kind) {
    case 'invitation':
      return `${sharer} invited you to ${device}.`;
    case 'invitation_changed':
      return `${sharer} changed the invitation to ${device}.`;
    case 'share_changed':
      return `${sharer} changed what you may do with ${device}.`;
    case 'revoked':
      return `${sharer} does not share ${device} with you any more.`;
    case 'expiring':
      return notice.state === 'requested' && notice.expiresAt
        ? `The invitation to ${device} can be accepted until ${moment(notice.expiresAt)}.`
        : `Your access to ${device} ends soon.`;
    case 'expired':
      return `Your access to ${device} is over: its time has come.`;
    case 'accepted':
      return `${invited} accepted ${device}.`;
    case 'rejected':
      return `${invited} rejected ${device}.`;
    case 'left':
      return `${invited} gave ${device} back.`;
    case 'undeliverable':
      return `The invitation of ${invited} to ${device} could not be delivered.`;
    case 'first_use':
      return `${invited} connected to ${device} for the first time.`;
    default:
      return `${device}: ${notice.kind.replaceAll('_', ' ')}`;
  }
}
