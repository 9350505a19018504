import { describe, expect, it } from 'vitest'
import { message } from './conversation.fixture'
import { botOwesAnswer, oldestFirst, withDelivery, withMessage } from './thread'

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
