import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// The portal serves what is built here below /static/app, and its page names the files by the manifest.
export default defineConfig({
  plugins: [react()],
  base: '/static/app/',
  build: {
    outDir: '../services/portal/src/portal/static/app',
    emptyOutDir: true,
    manifest: 'manifest.json',
    rollupOptions: { input: 'src/main.tsx' },
    assetsInlineLimit: 0, // the Content-Security-Policy allows no data: address for scripts and styles
    modulePreload: { polyfill: false },
    target: 'es2022',
  },
});
