import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import en from '../../locales/en/console/webhooks.json'
import type { EventKind, Webhook } from './api'
import { byArea, conditionOf, hostOf, isAddress, nameOf, written } from './webhook'

const webhook: Webhook = {
  id: 'w1',
  url: 'https://shop.example.com/botyard',
  description: '',
  events: [],
  state: 'enabled',
  reason: null,
  old_secret_until: null,
  failing_since: null,
  rest_until: null,
  created_at: '',
  updated_at: '',
}

describe('an endpoint', () => {
  it('is called as somebody wrote, else by its host', () => {
    expect(nameOf(webhook)).toBe('shop.example.com')
    expect(nameOf({ ...webhook, description: '仓库' })).toBe('仓库')
    expect(hostOf('nowhere')).toBe('nowhere')
  })

  it('is in trouble before it is switched off', () => {
    expect(conditionOf(webhook)).toBe('enabled')
    expect(conditionOf({ ...webhook, failing_since: '2026-01-01T00:00:00Z' })).toBe('troubled')
    expect(conditionOf({ ...webhook, state: 'disabled', failing_since: '2026-01-01T00:00:00Z' })).toBe('disabled')
  })

  it('has an address of the web', () => {
    expect(isAddress(' https://shop.example.com/x ')).toBe(true)
    expect(isAddress('shop.example.com')).toBe(false)
    expect(isAddress('mailto:a@b.example')).toBe(false)
  })
})

describe('events', () => {
  it('stand by what they are about', () => {
    const kinds = ['message.received', 'turn.ended', 'message.answered'].map((name) => ({ name }) as EventKind)
    expect(byArea(kinds).map(({ area, kinds: of }) => [area, of.length])).toEqual([['message', 2], ['turn', 1]])
  })

  it('all have words', () => {
    const schema = readFileSync(join(import.meta.dirname, '../../api/schema.ts'), 'utf8')
    const union = /WebhookIn: \{[^}]*events: \(([^)]*)\)/.exec(schema)?.[1] ?? ''
    const names = [...union.matchAll(/"([^"]+)"/g)].map(([, name = '']) => name)
    expect(names.length).toBeGreaterThan(20)
    const words: unknown = en.webhookEvent
    const said = (name: string) =>
      name.split('.').reduce<unknown>((part, step) => (part as Record<string, unknown> | undefined)?.[step], words)
    expect(names.filter((name) => typeof said(name) !== 'string')).toEqual([])
  })
})

describe('a body', () => {
  it('is read with its lines, and as it is when it is no JSON', () => {
    expect(written('{"a":1}')).toBe('{\n  "a": 1\n}')
    expect(written('{')).toBe('{')
  })
})
