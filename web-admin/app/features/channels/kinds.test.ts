import { describe, expect, it } from 'vitest'
import { fieldsOf, kindOf, kinds } from './kinds'

const namesOf = (kind: string) => fieldsOf(kindOf(kind)?.schema ?? { properties: {} }).map(({ name }) => name)
const field = (kind: string, name: string) =>
  fieldsOf(kindOf(kind)?.schema ?? { properties: {} }).find((each) => each.name === name)

describe('fieldsOf', () => {
  it('asks for nothing that we make up, nor for what the server keeps by itself', () => {
    expect(namesOf('webchat')).not.toContain('secret')
    expect(namesOf('wecom')).not.toContain('previous_token')
    expect(namesOf('wecom')).toContain('token')
  })

  it('knows secrets, also those that may be absent', () => {
    expect(field('feishu', 'app_secret')?.type).toBe('secret')
    expect(field('feishu', 'encrypt_key')?.type).toBe('secret')
  })

  it('knows choices, numbers, flags, lists and colours', () => {
    expect(field('qq', 'transport')?.choices).toEqual(['webhook', 'gateway'])
    expect(field('wecom', 'agent_id')?.type).toBe('number')
    expect(field('qq', 'guilds')?.type).toBe('flag')
    expect(field('webchat', 'allowed_origins')?.type).toBe('list')
    expect(field('webchat', 'accent')?.type).toBe('colour')
  })

  it('asks for the necessary first and for addresses last', () => {
    const names = namesOf('wecom')
    expect(names.at(-1)).toBe('base_url')
    expect(names.indexOf('corp_id')).toBeLessThan(names.indexOf('greeting'))
  })

  it('can make a form for every kind', () => {
    for (const kind of kinds) expect(fieldsOf(kind.schema).length, kind.name).toBeGreaterThan(0)
  })
})
