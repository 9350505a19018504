import { resolve } from 'node:path'
import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'

/** The page of GET /webchat/{token}; its assets live under one public path for every token. */
export default defineConfig({
  root: import.meta.dirname,
  base: '/webchat-assets/',
  plugins: [vue()],
  define: { __VUE_OPTIONS_API__: false },
  build: {
    outDir: resolve(import.meta.dirname, '../dist/webchat'),
    emptyOutDir: true,
    // Inlined assets would be data: addresses, which the page's content policy does not allow.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
})
