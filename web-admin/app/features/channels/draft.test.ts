import { describe, expect, it } from 'vitest'
import { changesOf, enteredFrom, missingIn } from './draft'
import { fieldsOf } from './kinds'
import { postbox } from './kinds.fixture'

const fields = fieldsOf(postbox)

describe("a channel's draft", () => {
  it('never shows a secret', () => {
    expect(enteredFrom(fields, { box: 1, token: 'hidden' })).toMatchObject({ box: '1', token: '' })
  })

  it('sends what was entered, in its type, and nothing else', () => {
    const before = enteredFrom(fields, {})
    const entered = { ...before, base_url: ' https://a.example ', box: '1000002', token: 's' }
    expect(changesOf(fields, before, entered)).toEqual({ base_url: 'https://a.example', box: 1000002, token: 's' })
  })

  it('gives an emptied field back its default', () => {
    const before = enteredFrom(fields, { accent: '#0f766e', pages: ['https://a.example'] })
    const entered = { ...before, accent: '', pages: '' }
    expect(changesOf(fields, before, entered)).toEqual({ accent: null, pages: [] })
  })

  it('reads a list line by line', () => {
    const before = enteredFrom(fields, {})
    const entered = { ...before, pages: 'https://a.example\n https://b.example\n' }
    expect(changesOf(fields, before, entered)).toEqual({ pages: ['https://a.example', 'https://b.example'] })
  })

  it('sends a flag that was switched off', () => {
    const before = enteredFrom(fields, { loud: true })
    expect(changesOf(fields, before, { ...before, loud: false })).toEqual({ loud: false })
  })

  it('misses necessary fields, but no secret that is set', () => {
    const needed = fields.map((field) => (field.name === 'token' ? { ...field, isRequired: true } : field))
    const entered = { ...enteredFrom(needed, {}), box: '' }
    expect(missingIn(needed, entered, [])).toEqual(['box', 'token'])
    expect(missingIn(needed, entered, ['token'])).toEqual(['box'])
  })
})
