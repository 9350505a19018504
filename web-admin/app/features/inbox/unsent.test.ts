// @vitest-environment happy-dom
import { beforeEach, describe, expect, it } from 'vitest'
import { ApiError } from '../../api/problem'
import { forgetDrafts } from '../../drafts'
import type { Reply } from './outbox'
import { BY_ITSELF_MS, conversationsIn, goneOf, REPEATABLE_MS, unsentIn } from './unsent'

const WRITTEN = Date.parse('2026-11-22T12:00:00Z')

function reply(key: string, change: Partial<Reply> = {}): Reply {
  const at = new Date(WRITTEN).toISOString()
  return { key, text: key, attachments: [], at, seen: 6, state: 'queued', error: null, ...change }
}

describe('unsent replies', () => {
  let now = WRITTEN
  const mine = () => unsentIn(localStorage, 'me', 'c1', () => now)

  beforeEach(() => {
    localStorage.clear()
    now = WRITTEN
  })

  it('are there again with their files, oldest first, for their author and conversation', () => {
    const attachments = [{ mediaId: 'm1', name: 'a.png', contentType: 'image/png' }]
    mine().keep(reply('later', { at: '2026-11-22T12:00:01Z' }))
    mine().keep(reply('first', { attachments }))
    expect(mine().read()).toEqual([
      reply('first', { attachments, state: 'unknown' }),
      reply('later', { at: '2026-11-22T12:00:01Z', state: 'unknown' }),
    ])
    expect(unsentIn(localStorage, 'you', 'c1', () => now).read()).toEqual([])
    expect(unsentIn(localStorage, 'me', 'c2', () => now).read()).toEqual([])
    expect(conversationsIn(localStorage, 'me')).toEqual(['c1'])
  })

  it('go out by themselves while they are young, then their author says so, then never again', () => {
    mine().keep(reply('k'))
    const stateAt = (age: number) => {
      now = WRITTEN + age
      return mine().read()[0]?.state
    }
    expect(stateAt(BY_ITSELF_MS)).toBe('unknown')
    expect(stateAt(BY_ITSELF_MS + 1)).toBe('held')
    expect(stateAt(REPEATABLE_MS)).toBe('held')
    expect(stateAt(REPEATABLE_MS + 1)).toBe('stranded')
  })

  it('keep why they were refused', () => {
    const error = new ApiError(409, 'stale_view', 'Li answered meanwhile.')
    mine().keep(reply('k', { state: 'refused', error }))
    expect(mine().read()).toEqual([reply('k', { state: 'refused', error })])
  })

  it('end when they have arrived, and when their author signs out', () => {
    mine().keep(reply('a'))
    mine().keep(reply('b'))
    mine().drop('a')
    expect(mine().read().map(({ key }) => key)).toEqual(['b'])
    forgetDrafts(localStorage)
    expect(localStorage).toHaveLength(0)
  })

  it('give way to newer ones', () => {
    for (let n = 0; n < 105; n += 1) mine().keep(reply(`k${n}`, { at: new Date(WRITTEN + n).toISOString() }))
    const kept = mine().read().map(({ key }) => key)
    expect([kept.length, kept[0]]).toEqual([100, 'k5'])
  })

  it('are nothing where they cannot be read', () => {
    localStorage.setItem('botyard.unsent.me.c1.a', '{')
    localStorage.setItem('botyard.unsent.me.c1.b', 'null')
    localStorage.setItem('botyard.unsent.me.c1.c', '{"text": 7}')
    expect(mine().read()).toEqual([])
  })

  it('are known by their names in the store', () => {
    expect(goneOf('me', 'botyard.unsent.me.c1.k1')).toEqual({ conversation: 'c1', reply: 'k1' })
    expect(goneOf('you', 'botyard.unsent.me.c1.k1')).toBeNull()
    expect(goneOf('me', null)).toBeNull()
  })
})
