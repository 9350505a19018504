/** The dashboard's words: one JSON file per language, zh-CN being the one that defines the keys. */

import { createI18n } from 'vue-i18n'
import zhCN from './locales/zh-CN.json'

export const LANGUAGES = ['zh-CN', 'en'] as const
export type Language = (typeof LANGUAGES)[number]

const STORAGE_KEY = 'botyard.language'
const others = { en: () => import('./locales/en.json') }

export const i18n = createI18n<[typeof zhCN], Language, false>({
  legacy: false,
  locale: 'zh-CN',
  fallbackLocale: 'zh-CN',
  messages: { 'zh-CN': zhCN } as Record<Language, typeof zhCN>,
})

export function preferredLanguage(): Language {
  const stored = localStorage.getItem(STORAGE_KEY)
  const known = LANGUAGES.find((language) => language === stored)
  return known ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en')
}

export async function setLanguage(language: Language): Promise<void> {
  const { global } = i18n
  if (language !== 'zh-CN' && !global.availableLocales.includes(language)) {
    global.setLocaleMessage(language, (await others[language]()).default)
  }
  global.locale.value = language
  document.documentElement.lang = language
  localStorage.setItem(STORAGE_KEY, language)
}
