/** Light, dark, or as the system says. */

import { ref } from 'vue'

export const THEMES = ['system', 'light', 'dark'] as const
export type Theme = (typeof THEMES)[number]

const STORAGE_KEY = 'botyard.theme'

export const theme = ref<Theme>('system')

export function restoreTheme(): void {
  const stored = localStorage.getItem(STORAGE_KEY)
  setTheme(THEMES.find((candidate) => candidate === stored) ?? 'system')
}

export function setTheme(next: Theme): void {
  theme.value = next
  document.documentElement.dataset.theme = next
  localStorage.setItem(STORAGE_KEY, next)
}
