import { describe, expect, it } from 'vitest'
import { conversation } from './conversation.fixture'
import { belongs, inOrder, VIEWS, waited, withOwner } from './views'

describe('belongs', () => {
  it.each([
    [{ owner: 'human', owner_member_id: 'me' }, ['mine', 'all']],
    [{ owner: 'human', owner_member_id: 'other' }, ['all']],
    [{ owner: 'waiting' }, ['waiting', 'all']],
    [{ owner: 'bot' }, ['bot', 'all']],
    [{ owner: 'closed' }, ['closed', 'all']],
  ])('puts %o into %o', (given, views) => {
    expect(VIEWS.filter((view) => belongs(conversation(given), view, 'me'))).toEqual(views)
  })
})

describe('inOrder', () => {
  const one = conversation({ id: 'one', last_message_at: '2026-11-22T01:00:00Z' })
  const two = conversation({ id: 'two', last_message_at: '2026-11-22T02:00:00Z' })
  const ids = (view: 'all' | 'waiting') => inOrder([one, two], view).map(({ id }) => id)

  it('shows what happened last first, and who waits longest first', () => {
    expect(ids('all')).toEqual(['two', 'one'])
    expect(ids('waiting')).toEqual(['one', 'two'])
  })
})

describe('withOwner', () => {
  const change = { conversation_id: 'c', owner: 'human', owner_member_id: 'me', owner_version: 3, reason: null }

  it('takes a newer owner', () => {
    const before = conversation({ id: 'c', owner: 'waiting', owner_version: 2, waiting_reason: 'no_answer' })
    expect(withOwner(before, change)).toMatchObject({ owner: 'human', owner_member_id: 'me', waiting_reason: null })
  })

  it('leaves one alone that is as new, and other conversations', () => {
    const newer = conversation({ id: 'c', owner: 'closed', owner_version: 3 })
    expect(withOwner(newer, change)).toBe(newer)
    const other = conversation({ id: 'd', owner_version: 1 })
    expect(withOwner(other, change)).toBe(other)
  })
})

describe('waited', () => {
  const now = Date.parse('2026-11-22T12:00:00Z')

  it.each([
    ['2026-11-22T11:59:30Z', ''],
    ['2026-11-22T12:00:30Z', ''],
    ['2026-11-22T11:57:10Z', '2 min'],
    ['2026-11-22T09:10:00Z', '2 hr'],
    ['2026-11-20T11:00:00Z', '2 days'],
    ['never', ''],
  ])('says for %s: %s', (since, words) => {
    expect(waited(since, now, 'en')).toBe(words)
  })
})
