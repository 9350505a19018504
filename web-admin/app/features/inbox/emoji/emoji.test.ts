import { describe, expect, it } from 'vitest'
import { EMOJI, find, GROUPS } from './emoji'

const all = GROUPS.flatMap((group) => EMOJI[group])

describe('emoji', () => {
  it('stand once each and have words in both languages', () => {
    expect(new Set(all.map(({ sign }) => sign)).size).toBe(all.length)
    for (const { sign, words } of all) {
      expect(sign).toMatch(/\p{Extended_Pictographic}|\u20e3|\p{Emoji_Presentation}/u)
      expect(words, sign).toMatch(/[a-z]/)
      expect(words, sign).toMatch(/\p{Script=Han}/u)
    }
  })

  it('are found by what people call them', () => {
    const signs = (typed: string) => find(typed).map(({ sign }) => sign)
    expect(signs('谢谢')).toContain('🙏')
    expect(signs('Thumbs UP')).toEqual(['👍'])
    expect(signs('快递')).toEqual(['📦'])
    expect(signs('🎉')).toEqual(['🎉'])
    expect(signs('no such thing')).toEqual([])
    expect(signs(' ')).toHaveLength(all.length)
  })
})
