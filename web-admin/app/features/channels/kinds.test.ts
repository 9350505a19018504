import { describe, expect, it } from 'vitest'
import { fieldsOf, titleOf } from './kinds'
import { postbox } from './kinds.fixture'

const fields = fieldsOf(postbox)
const names = fields.map(({ name }) => name)
const field = (name: string) => fields.find((each) => each.name === name)

describe('fieldsOf', () => {
  it('asks for nothing that we make up, nor for what the server keeps by itself', () => {
    expect(names).not.toContain('sign')
    expect(names).not.toContain('previous_token')
    expect(names).toContain('token')
  })

  it('knows secrets that may be absent, choices, numbers, flags, lists, colours and long texts', () => {
    expect(fields.map(({ name, type }) => [name, type])).toEqual([
      ['transport', 'choice'],
      ['colour', 'choice'],
      ['box', 'number'],
      ['greeting', 'long'],
      ['token', 'secret'],
      ['loud', 'flag'],
      ['pages', 'list'],
      ['accent', 'colour'],
      ['base_url', 'text'],
    ])
    expect(field('transport')?.choices).toEqual(['callback', 'pull'])
    expect(field('colour')?.choices).toEqual(['red', 'blue'])
  })

  it('has both languages, and English where the other is missing', () => {
    expect(field('box')).toMatchObject({ title: 'Box', titleZh: '信箱号', hint: 'Its number.', hintZh: '信箱的号码。' })
    expect(field('base_url')).toMatchObject({ titleZh: '', hintZh: 'Where it is.' })
  })

  it('takes a kind that asks for nothing', () => {
    expect(fieldsOf({ settings: {}, generated: [] })).toEqual([])
  })
})

describe('titleOf', () => {
  it('speaks the reader’s language', () => {
    expect(titleOf([postbox], 'postbox', true)).toBe('信箱')
    expect(titleOf([postbox], 'postbox', false)).toBe('Postbox')
  })

  it('has the bare name of a kind that is not installed any more', () => {
    expect(titleOf([postbox], 'fax', true)).toBe('fax')
  })
})
