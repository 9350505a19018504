import { describe, expect, it } from 'vitest'
import { message, note, transfer } from './conversation.fixture'
import { answeredSince, botOwesAnswer, entriesOf, holdsMedia, isToCome, lastNote, oldestFirst, turnOf, withDelivery, withMessage } from './thread'

const sent = message(2, { delivery: { state: 'sending', error_class: null, attempts: 2 } })
const page = { items: [sent, message(1)], next: 'older' }

describe('withDelivery', () => {
  it('tells how a message fares and keeps the rest', () => {
    const after = withDelivery(page, { message_id: 'm2', state: 'failed', error_class: 'rejected' })
    expect(after.items[0]?.delivery).toEqual({ state: 'failed', error_class: 'rejected', attempts: 2 })
    expect(after.items[1]).toBe(page.items[1])
    expect(after.next).toBe('older')
  })

  it('changes nothing for what is known, or not shown', () => {
    expect(withDelivery(page, { message_id: 'm2', state: 'sending', error_class: null })).toBe(page)
    expect(withDelivery(page, { message_id: 'm9', state: 'sent', error_class: null })).toBe(page)
  })
})

describe('withMessage', () => {
  it('adds a message once, though both the answer and the stream tell of it', () => {
    const once = withMessage(page, message(3))
    expect(withMessage(once, message(3))).toBe(once)
    expect(oldestFirst(once).map(({ number }) => number)).toEqual([1, 2, 3])
  })
})

describe('isToCome', () => {
  const bot = (number: number) => message(number, { sender: { kind: 'bot', id: null, name: null } })

  it.each([
    ['the contact spoke last', 'bot', [bot(2), message(3)], 3, true],
    ['the contact said more meanwhile', 'bot', [message(3), message(4)], 3, true],
    ['it is a message now', 'bot', [message(3), bot(4)], 3, false],
    ['the contact has spoken behind it', 'bot', [message(3), bot(4), message(5)], 3, false],
    ['a colleague has taken over', 'human', [message(3)], 3, false],
    ['nothing is loaded', 'bot', [], 3, false],
  ])('is said or not: %s', (_, owner, messages, through, expected) => {
    expect(isToCome(owner, messages, through)).toBe(expected)
  })
})

describe('botOwesAnswer', () => {
  it.each([
    ['bot', message(4), 3, true],
    ['bot', message(4), 4, false],
    ['human', message(4), 3, false],
    ['bot', message(4, { sender: { kind: 'bot', id: null, name: null } }), 3, false],
    ['bot', undefined, 0, false],
  ])('is said for owner %s', (owner, newest, ended, owes) => {
    expect(botOwesAnswer(owner, newest, ended)).toBe(owes)
  })
})

describe('entriesOf', () => {
  const said = [message(1), message(2, { sender: { kind: 'bot', id: null, name: null } }), message(3), message(4)]
  const keys = (...given: Parameters<typeof entriesOf>) => entriesOf(...given).map(({ key }) => key)
  const all = { seenNumber: 9, hasOlder: false }

  it('puts notes and transfers behind the message that was the newest, in the order of time', () => {
    const notes = [note('late', 2, { created_at: '2026-11-22T12:03:00Z' }), note('first', 0), note('end', 4)]
    const handed = [transfer('handed', 2, { created_at: '2026-11-22T12:02:00Z' })]
    expect(keys(said, notes, handed, all)).toEqual(['first', 'm1', 'm2', 'handed', 'late', 'm3', 'm4', 'end'])
  })

  it('leaves out what belongs to older messages until they come', () => {
    const notes = [note('older', 0), note('here', 1)]
    expect(keys(said, notes, [], { ...all, hasOlder: true })).toEqual(['m1', 'here', 'm2', 'm3', 'm4'])
  })

  it('draws a line above the first words of the contact that were not seen', () => {
    expect(keys(said, [], [], { ...all, seenNumber: 1 })).toEqual(['m1', 'm2', 'unread', 'm3', 'm4'])
    expect(keys(said, [], [], { ...all, seenNumber: 3 })).toEqual(['m1', 'm2', 'm3', 'unread', 'm4'])
  })

  it('draws none above everything', () => {
    expect(keys(said, [], [], { ...all, seenNumber: 0 })).toEqual(['m1', 'm2', 'm3', 'm4'])
  })
})

describe('lastNote', () => {
  it('is the one that stands last', () => {
    expect(lastNote([note('b', 2), note('a', 3), note('c', 2)])?.id).toBe('a')
    expect(lastNote([])).toBeUndefined()
  })
})

describe('answeredSince', () => {
  const by = (number: number, kind: string, id: string) => message(number, { sender: { kind, id, name: `name of ${id}` } })

  it('names the colleague who answered last behind what was seen', () => {
    const messages = [by(1, 'human', 'a'), by(2, 'human', 'b'), by(3, 'contact', 'c'), by(4, 'human', 'me')]
    expect(answeredSince(messages, 1, 'me')).toBe('name of b')
    expect(answeredSince(messages, 2, 'me')).toBeNull()
  })
})

describe('holdsMedia', () => {
  it('knows the voice that was converted', () => {
    const voice = { type: 'voice' as const, ref: { via: 'media', id: 'v1', more: {} }, format: null, duration_ms: null, transcript: null }
    expect(holdsMedia([message(1), message(2, { segments: [voice] })], 'v1')).toBe(true)
    expect(holdsMedia([message(1, { segments: [{ ...voice, ref: null }] })], 'v1')).toBe(false)
  })
})

describe('turnOf', () => {
  it('is the last that had read everything before the message', () => {
    const turns = [{ through_number: 9 }, { through_number: 4 }, { through_number: 2 }]
    expect(turnOf(turns, 6)).toBe(turns[1])
    expect(turnOf(turns, 5)).toBe(turns[1])
    expect(turnOf(turns, 2)).toBeUndefined()
  })
})

describe('entriesOf, of a look at what was said earlier', () => {
  it('leaves out what stands behind its end', () => {
    const entries = entriesOf([message(1), message(2)], [note('here', 1), note('later', 7)], [], {
      seenNumber: Infinity,
      hasOlder: false,
      until: 3,
    })
    expect(entries.filter(({ kind }) => kind === 'note')).toHaveLength(1)
  })
})
