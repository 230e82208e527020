import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app';
import { remember } from './lib/graphql';
import { Announcer } from './parts/Announcer';
import { leaveOthersPushes } from './push/push';
import './styles/base.css';
import './styles/parts.css';
import './styles/pages.css';

// A page before this one (an invitation that was accepted) tells from when on lists must show it.
const address = new URL(location.href);
if (address.searchParams.has('at')) {
  remember(address.searchParams.get('at'));
  address.searchParams.delete('at');
  history.replaceState(null, '', address);
}

// Lists are current because changes are told (lib/live.ts), not because they are asked for again and again.
const client = new QueryClient({
  defaultOptions: { queries: { staleTime: Number.POSITIVE_INFINITY, retry: 2, refetchOnWindowFocus: false } },
});

void leaveOthersPushes();

const root = document.getElementById('app');
if (root)
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <Announcer>
          <App />
        </Announcer>
      </QueryClientProvider>
    </StrictMode>,
  );
