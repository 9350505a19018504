import { describe, expect, it } from 'vitest'
import { conversation } from './conversation.fixture'
import { badge, belongs, fits, inOrder, nameOf, VIEWS, waited, withOwner, withSeen, withTag } from './views'

const SINCE = '2026-11-22T01:00:00Z'
const anything = { order: 'newest', tagId: '', channelId: '' } as const

describe('belongs', () => {
  it.each([
    [{ owner: 'human', owner_member_id: 'me' }, ['mine', 'mentions', 'all']],
    [{ owner: 'human', owner_member_id: 'me', waiting_since: SINCE }, ['mine', 'waiting', 'mentions', 'all']],
    [{ owner: 'human', owner_member_id: 'other' }, ['mentions', 'all']],
    [{ owner: 'waiting', waiting_since: SINCE }, ['unassigned', 'waiting', 'mentions', 'all']],
    [{ owner: 'bot' }, ['bot', 'mentions', 'all']],
    [{ owner: 'closed' }, ['mentions', 'closed', 'all']],
  ])('puts %o into %o', (given, views) => {
    expect(VIEWS.filter((view) => belongs(conversation(given), view, 'me'))).toEqual(views)
  })
})

describe('fits', () => {
  const tagged = conversation({ channel_id: 'ch', tags: [{ id: 'vip', name: 'VIP', colour: 'red' }] })

  it.each([
    [{}, true],
    [{ tagId: 'vip' }, true],
    [{ tagId: 'other' }, false],
    [{ channelId: 'ch', tagId: 'vip' }, true],
    [{ channelId: 'other', tagId: 'vip' }, false],
    [{ order: 'waiting' as const }, false],
  ])('asks for all of %o', (filter, answer) => {
    expect(fits(tagged, { ...anything, ...filter })).toBe(answer)
  })
})

describe('inOrder', () => {
  const one = conversation({ id: 'one', last_message_at: '2026-11-22T01:00:00Z', waiting_since: '2026-11-22T00:50:00Z' })
  const two = conversation({ id: 'two', last_message_at: '2026-11-22T02:00:00Z', waiting_since: '2026-11-22T00:40:00Z' })
  const ids = (order: 'newest' | 'waiting') => inOrder([one, two], order).map(({ id }) => id)

  it('shows what happened last first, or who waits longest', () => {
    expect(ids('newest')).toEqual(['two', 'one'])
    expect(inOrder([two, one], 'newest').map(({ id }) => id)).toEqual(['two', 'one'])
    expect(ids('waiting')).toEqual(['two', 'one'])
    const later = { ...two, waiting_since: '2026-11-22T00:55:00Z' }
    expect(inOrder([later, one], 'waiting')).toEqual([one, later])
  })
})

describe('badge', () => {
  it.each([
    [0, ''],
    [1, '1'],
    [99, '99'],
    [100, '99+'],
  ])('says for %i: %s', (count, words) => {
    expect(badge(count)).toBe(words)
  })
})

describe('nameOf', () => {
  it('takes what members call them first', () => {
    expect(nameOf({ remark: 'Old Wang', name: 'W' }, 'Visitor')).toBe('Old Wang')
    expect(nameOf({ remark: null, name: 'W' }, 'Visitor')).toBe('W')
    expect(nameOf({ remark: null, name: null }, 'Visitor')).toBe('Visitor')
  })
})

describe('withOwner', () => {
  const change = { conversation_id: 'c', owner: 'human', owner_member_id: 'me', owner_version: 3, reason: null }

  it('takes a newer owner', () => {
    const before = conversation({ id: 'c', owner: 'waiting', owner_version: 2, waiting_reason: 'no_answer' })
    expect(withOwner(before, change)).toMatchObject({ owner: 'human', owner_member_id: 'me', waiting_reason: null })
  })

  it('waits for nobody once the bot answers again', () => {
    const before = conversation({ id: 'c', owner: 'waiting', waiting_since: SINCE })
    expect(withOwner(before, change).waiting_since).toBe(SINCE)
    expect(withOwner(before, { ...change, owner: 'bot' }).waiting_since).toBeNull()
  })

  it('leaves one alone that is as new, and other conversations', () => {
    const newer = conversation({ id: 'c', owner: 'closed', owner_version: 3 })
    expect(withOwner(newer, change)).toBe(newer)
    const other = conversation({ id: 'd', owner_version: 1 })
    expect(withOwner(other, change)).toBe(other)
  })
})

describe('withSeen', () => {
  const before = conversation({ id: 'c', last_number: 5, seen_number: 2, unread: 3 })

  it('has nothing unread once the newest was seen', () => {
    expect(withSeen(before, { conversation_id: 'c', number: 5 })).toMatchObject({ seen_number: 5, unread: 0 })
    expect(withSeen(before, { conversation_id: 'c', number: 4 })).toMatchObject({ seen_number: 4, unread: 3 })
  })

  it('never goes back', () => {
    expect(withSeen(before, { conversation_id: 'c', number: 1 })).toBe(before)
    expect(withSeen(before, { conversation_id: 'd', number: 9 })).toBe(before)
  })
})

describe('withTag', () => {
  const vip = { id: 'vip', name: 'VIP', colour: 'red' }
  const late = { id: 'late', name: 'Late', colour: 'grey' }
  const before = conversation({ id: 'c', tags: [vip] })
  const change = { conversation_id: 'c', tag_id: 'late', attached: true }

  it('puts a tag on once, and takes it off', () => {
    const after = withTag(before, change, [vip, late])
    expect(after.tags).toEqual([vip, late])
    expect(withTag(after, change, [vip, late]).tags).toEqual([vip, late])
    expect(withTag(after, { ...change, tag_id: 'vip', attached: false }, []).tags).toEqual([late])
  })

  it('leaves other conversations alone', () => {
    expect(withTag(before, { ...change, conversation_id: 'd' }, [late])).toBe(before)
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
    [null, ''],
  ])('says for %s: %s', (since, words) => {
    expect(waited(since, now, 'en')).toBe(words)
  })
})
