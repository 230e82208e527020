// What the portal wrote into the page.
const root = globalThis.document?.getElementById('app');

export const page = {
  account: root?.dataset.account ?? '',
  csrf: root?.dataset.csrf ?? '',
  /** Whether the registry that devices belong to can be asked to rename them. */
  renames: root?.dataset.renames === 'yes',
  /** Where a gateway takes HTTP CONNECT, as `https://host:port`; empty: it is not told here. */
  access: root?.dataset.access ?? '',
  /** Lead through sign-in and back to here. */
  signIn(): void {
    location.assign(`/auth/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  },
};
