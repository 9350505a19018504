import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { excerptOf, wordsOf } from './excerpt'

describe('excerptOf', () => {
  it.each([
    ['我的订单号是 A123', '订单号', ['我的', '订单号', '是 A123']],
    ['Where is My  Order?', 'my order', ['Where is ', 'My  Order', '?']],
    ['ＡＢＣ公司', 'abc', ['', 'ＡＢＣ', '公司']],
    ['🙂🙂 hello 🙂', 'HELLO', ['🙂🙂 ', 'hello', ' 🙂']],
    ['nothing of it', 'else', ['nothing of it', '', '']],
    ['anything', ' ', ['anything', '', '']],
  ])('finds in %j %j', (words, sought, [before, match, after]) => {
    expect(excerptOf(words, sought)).toEqual({ before, match, after })
  })

  it('shows what stands around it of a long text', () => {
    const { before, match, after } = excerptOf(`${'前'.repeat(100)}here${'后'.repeat(200)}`, 'here')
    expect(match).toBe('here')
    expect(before).toBe(`…${'前'.repeat(40)}`)
    expect(after).toBe(`${'后'.repeat(120)}…`)
  })

  it('never shows what does not stand there', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 300 })
    fc.assert(
      fc.property(text, text, text, (one, sought, other) => {
        const words = one + sought + other
        const { before, match, after } = excerptOf(words, sought)
        expect(words).toContain(before.replace(/^…|…$/g, ''))
        expect(words).toContain(match + after.replace(/…$/, ''))
      }),
    )
  })
})

describe('wordsOf', () => {
  it('has what the server looks through, in order', () => {
    expect(wordsOf([{ type: 'text', text: 'a' }, { type: 'file', name: 'b.pdf', url: 'x' }, { type: 'image', name: null }])).toBe('a b.pdf')
  })
})
