import { resolve } from 'node:path'
import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'

/** The dashboard, served by the control plane at /app/. */
export default defineConfig({
  root: import.meta.dirname,
  base: '/app/',
  plugins: [vue()],
  define: {
    __VUE_OPTIONS_API__: true, // Element Plus still has components in that style.
    __VUE_I18N_FULL_INSTALL__: false,
    __VUE_I18N_LEGACY_API__: false,
    __INTLIFY_PROD_DEVTOOLS__: false,
  },
  build: {
    outDir: resolve(import.meta.dirname, '../dist/app'),
    emptyOutDir: true,
    assetsInlineLimit: 0,
    // Names what each page needs, for scripts/budget.mjs.
    manifest: 'manifest.json',
    modulePreload: { polyfill: false },
  },
})
