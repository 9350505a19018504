/**
 * The dashboard's words: a folder for each language, loaded when it is chosen, and within it a
 * folder for the console's pages, loaded with the first of them.
 */

import { createI18n } from 'vue-i18n'

export const LANGUAGES = ['zh-CN', 'en'] as const
export type Language = (typeof LANGUAGES)[number]

const STORAGE_KEY = 'botyard.language'
const WORDS = {
  'zh-CN': () => import('./locales/zh-CN'),
  en: () => import('./locales/en'),
}

const CONSOLE_WORDS = {
  'zh-CN': () => import('./locales/zh-CN/console'),
  en: () => import('./locales/en/console'),
}
let isConsoleAsked = false

export const i18n = createI18n({ legacy: false, locale: 'zh-CN' as Language, messages: {} })

export function preferredLanguage(): Language {
  const stored = localStorage.getItem(STORAGE_KEY)
  const known = LANGUAGES.find((language) => language === stored)
  return known ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en')
}

export async function setLanguage(language: Language): Promise<void> {
  const { global } = i18n
  global.setLocaleMessage(language, (await WORDS[language]()).default as never)
  if (isConsoleAsked) await mergeConsoleWords(language)
  global.locale.value = language
  document.documentElement.lang = language
  localStorage.setItem(STORAGE_KEY, language)
}

/** Before the first page whose words the inbox does without. */
export async function loadConsoleWords(): Promise<void> {
  if (isConsoleAsked) return
  await mergeConsoleWords(i18n.global.locale.value as Language)
  isConsoleAsked = true
}

async function mergeConsoleWords(language: Language): Promise<void> {
  i18n.global.mergeLocaleMessage(language, (await CONSOLE_WORDS[language]()).default)
}
