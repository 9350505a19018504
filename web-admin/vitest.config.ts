import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [vue()],
  test: {
    include: ['{app,kit,widget}/**/*.test.ts'],
    // Element Plus imports style sheets, which Node cannot load by itself.
    server: { deps: { inline: ['element-plus'] } },
    restoreMocks: true,
  },
})
