import { resolve } from 'node:path'
import { defineConfig } from 'vite'

/** One classic script beside the widget's page; built after it, so the folder is not emptied. */
export default defineConfig({
  root: import.meta.dirname,
  publicDir: false,
  build: {
    outDir: resolve(import.meta.dirname, '../dist/webchat'),
    emptyOutDir: false,
    lib: {
      entry: resolve(import.meta.dirname, 'loader.ts'),
      formats: ['iife'],
      name: 'botyardWebchat',
      fileName: () => 'loader.js',
    },
  },
})
