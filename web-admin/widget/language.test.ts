import { describe, expect, it } from 'vitest'
import { chooseLanguage } from './language'

describe('chooseLanguage', () => {
  it.each([
    [['zh-TW', 'en'], 'zh-CN'],
    [['fr', 'zh'], 'zh-CN'],
    [['en-GB', 'zh'], 'en'],
    [['fr'], 'en'],
  ])('answers %j with %s', (preferred, language) => {
    expect(chooseLanguage(preferred)).toBe(language)
  })
})
