import { describe, expect, it } from 'vitest'
import { changesOf, enteredFrom, missingIn } from './draft'
import { fieldsOf, kindOf } from './kinds'

const fields = (kind: string) => fieldsOf(kindOf(kind)?.schema ?? { properties: {} })

describe("a channel's draft", () => {
  it('never shows a secret', () => {
    expect(enteredFrom(fields('qq'), { app_id: '1', secret: 'hidden' })).toMatchObject({ app_id: '1', secret: '' })
  })

  it('sends what was entered, in its type, and nothing else', () => {
    const before = enteredFrom(fields('wecom'), {})
    const entered = { ...before, corp_id: ' ww1 ', agent_id: '1000002', secret: 's' }
    expect(changesOf(fields('wecom'), before, entered)).toEqual({ corp_id: 'ww1', agent_id: 1000002, secret: 's' })
  })

  it('gives an emptied field back its default', () => {
    const before = enteredFrom(fields('webchat'), { accent: '#0f766e', allowed_origins: ['https://a.example'] })
    const entered = { ...before, accent: '', allowed_origins: '' }
    expect(changesOf(fields('webchat'), before, entered)).toEqual({ accent: null, allowed_origins: [] })
  })

  it('reads a list line by line', () => {
    const before = enteredFrom(fields('webchat'), {})
    const entered = { ...before, allowed_origins: 'https://a.example\n https://b.example\n' }
    expect(changesOf(fields('webchat'), before, entered)).toEqual({
      allowed_origins: ['https://a.example', 'https://b.example'],
    })
  })

  it('sends a flag that was switched off', () => {
    const before = enteredFrom(fields('qq'), { guilds: true })
    expect(changesOf(fields('qq'), before, { ...before, guilds: false })).toEqual({ guilds: false })
  })

  it('misses necessary fields, but no secret that is set', () => {
    const entered = { ...enteredFrom(fields('qq'), {}), app_id: '' }
    expect(missingIn(fields('qq'), entered, [])).toEqual(['app_id', 'secret'])
    expect(missingIn(fields('qq'), entered, ['secret'])).toEqual(['app_id'])
  })
})
