import { defineConfig } from 'eslint/config'
import vue from 'eslint-plugin-vue'
import tseslint from 'typescript-eslint'

const MAX_FILE_LINES = 400
const MAX_FUNCTION_LINES = 70

export default defineConfig(
  { ignores: ['dist/', 'node_modules/', 'app/api/schema.ts'] },
  tseslint.configs.strict,
  tseslint.configs.stylistic,
  vue.configs['flat/recommended'],
  {
    files: ['**/*.vue'],
    languageOptions: { parserOptions: { parser: tseslint.parser } },
    rules: {
      'vue/block-order': ['error', { order: ['script', 'template', 'style'] }],
      'vue/define-macros-order': 'error',
      'vue/html-self-closing': ['error', { html: { void: 'always' } }],
      'vue/max-attributes-per-line': ['error', { singleline: 4 }],
      'vue/multi-word-component-names': 'off',
      // A static style attribute would need style-src 'unsafe-inline'.
      'vue/no-static-inline-styles': ['error', { allowBinding: false }],
      'vue/no-v-html': 'error',
      'vue/require-default-prop': 'off',
      'vue/singleline-html-element-content-newline': 'off',
    },
  },
  {
    rules: {
      eqeqeq: 'error',
      'max-lines': ['error', MAX_FILE_LINES],
      'no-console': 'error',
    },
  },
  {
    files: ['**/*.ts', '**/*.vue', '**/*.js', '**/*.mjs'],
    ignores: ['**/*.test.ts'],
    rules: { 'max-lines-per-function': ['error', MAX_FUNCTION_LINES] },
  },
  { files: ['scripts/**', 'browser/**'], rules: { 'no-console': 'off' } },
)
