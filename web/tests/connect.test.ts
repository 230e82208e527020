import { describe, expect, test } from 'vitest';
import { hostName, proxyCommands } from '../src/connect/commands';
import { type Notice, noticeInWords } from '../src/inbox/notices';

describe('a service has a host name, as the gateway reads it', () => {
  test.each([
    ['80:00:00:00:01:00:0A:02', '80-00-00-00-01-00-0a-02.latchkey'],
    ['dev-1', 'dev_2d1.latchkey'],
    ['Cam-1', '_43am_2d1.latchkey'],
    ['d.1', 'd.1.latchkey'],
    ['a_b:c', 'a_5fb_3ac.latchkey'],
  ])('%s', (id, name) => expect(hostName(id)).toBe(name));
});

describe('what to type to come through the proxy', () => {
  test.each([
    ['http://127.0.0.1:8495', 'ssh', /^ssh -o ProxyCommand='socat - PROXY:127\.0\.0\.1:%h:%p,proxyport=8495,.*' you@dev_2d1\.latchkey$/],
    ['https://gw.example:8443', 'ssh', /^ssh -o ProxyCommand='proxytunnel -q -E -p gw\.example:8443 -d %h:%p -H ".*"' you@/],
    ['https://gw.example', 'tcp', /^proxytunnel -q -E -p gw\.example:443 -d dev_2d1\.latchkey:1 -H ".*" -a 15900$/],
    ['http://127.0.0.1:8495', 'vnc', /^socat TCP-LISTEN:15900,bind=127\.0\.0\.1,reuseaddr,fork PROXY:127\.0\.0\.1:dev_2d1\.latchkey:1,/],
    ['https://gw.example', 'http', /^curl -p -x https:\/\/gw\.example --proxy-header "Proxy-Authorization: Bearer \$LATCHKEY_TOKEN" http:\/\/dev_2d1\.latchkey\/$/],
  ])('at %s for %s', (access, protocol, text) => {
    expect(proxyCommands(access, protocol, 'dev-1')[0]?.text).toMatch(text);
  });
});

describe('a notice says who and what', () => {
  const notice = (fields: Partial<Notice>): Notice => ({
    id: 'n', kind: 'accepted', at: '2026-01-01T00:00:00Z', read: false, shareId: 's', deviceId: 'd', deviceName: 'Kiln',
    sharerName: 'Ann', recipient: null, state: 'accepted', open: false, expiresAt: null, ...fields,
  });
  test.each([
    [{ recipient: 'b@x.test' }, 'b@x.test accepted Kiln.'],
    [{ kind: 'revoked', deviceName: null, sharerName: null }, 'Somebody does not share a device with you any more.'],
    [{ kind: 'expiring' }, 'Your access to Kiln ends soon.'],
    [{ kind: 'something_new' }, 'Kiln: something new'],
  ])('%j', (fields, words) => expect(noticeInWords(notice(fields))).toBe(words));
});
