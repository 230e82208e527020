// Shows what the notifier sends to this browser (Web Push; the payload: docs/notices.md) and opens what is clicked.
// It handles no fetch: pages load as if it were not there.
self.addEventListener('push', (event) => {
  const { title, body, tag, url, actions = [] } = event.data.json();
  const shown = self.registration.showNotification(title, {
    body,
    tag,
    renotify: true, // a newer one replaces it and is news
    icon: '/static/icon.svg',
    actions: actions.map((item, number) => ({ action: String(number), title: item.title })),
    data: { url, urls: actions.map((item) => item.url) },
  });
  event.waitUntil(shown);
});

self.addEventListener('notificationclick', (event) => {
  const { url, urls } = event.notification.data;
  event.notification.close();
  event.waitUntil(self.clients.openWindow(event.action ? urls[Number(event.action)] : url));
});
