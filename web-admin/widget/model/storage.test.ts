import { describe, expect, it } from 'vitest'
import { emptyConversation } from './conversation'
import type { Conversation, Outgoing, Shown } from './conversation'
import { conversationStorage } from './storage'
import { memoryStorage } from './storage.fixture'

function shown(id: string, provisional = false): Shown {
  const segments = [{ type: 'text', text: id, picture: null }]
  return { id, sender: { kind: 'bot', name: null }, segments, at: '', clientId: null, provisional }
}

function outgoing(id: string): Outgoing {
  return { id, text: id, picture: null, at: id, refusal: null }
}

const conversation: Conversation = {
  ...emptyConversation,
  visitor: 'secret',
  lastId: 'm1',
  messages: [shown('m1')],
  outbox: [outgoing('c1'), { ...outgoing('c2'), refusal: { code: 'too_long', detail: 'Too long.' } }],
}

describe('conversationStorage', () => {
  it('keeps a stored picture, and says of one that was not that it is lost', () => {
    const storage = conversationStorage(memoryStorage(), 'token')
    const picture = { name: 'flower.png', size: 7, mediaId: 'p1' }
    const outbox = [
      { ...outgoing('c1'), picture },
      { ...outgoing('c2'), picture: { ...picture, mediaId: null } },
    ]
    storage.save(emptyConversation, { ...conversation, outbox })
    expect(storage.load().outbox).toEqual([
      outbox[0],
      { ...outbox[1], refusal: { code: 'picture_lost', detail: '' } },
    ])
  })

  it('gives back what it kept', () => {
    const storage = conversationStorage(memoryStorage(), 'token')
    storage.save(emptyConversation, conversation)
    expect(storage.load()).toEqual(conversation)
  })

  it('keeps the conversations of two channels apart', () => {
    const area = memoryStorage()
    conversationStorage(area, 'one').save(emptyConversation, conversation)
    expect(conversationStorage(area, 'two').load()).toEqual(emptyConversation)
  })

  it('keeps a message whose place in the order is not known yet as such', () => {
    const storage = conversationStorage(memoryStorage(), 'token')
    const early: Conversation = { ...conversation, lastId: null, messages: [shown('m3', true)] }
    storage.save(emptyConversation, early)
    expect(storage.load()).toEqual(early)
  })

  it('does not remove what another tab is still sending', () => {
    const area = memoryStorage()
    const [one, other] = [conversationStorage(area, 'token'), conversationStorage(area, 'token')]
    other.save(emptyConversation, { ...emptyConversation, outbox: [outgoing('c9')] })
    one.save(emptyConversation, { ...emptyConversation, outbox: [outgoing('c1')] })
    one.save({ ...emptyConversation, outbox: [outgoing('c1')] }, emptyConversation)
    expect(one.load().outbox).toEqual([outgoing('c9')])
  })

  it('starts empty from values that it cannot read', () => {
    const area = memoryStorage()
    area.setItem('botyard.webchat.token.visitor', 'secret')
    area.setItem('botyard.webchat.token.transcript', '{broken')
    area.setItem('botyard.webchat.token.out.c1', '[]')
    expect(conversationStorage(area, 'token').load()).toEqual({ ...emptyConversation, visitor: 'secret' })
  })

  it('lets the conversation go on when the browser has no room or no storage', () => {
    const full = conversationStorage(memoryStorage(() => true), 'token')
    full.save(emptyConversation, conversation)
    expect(full.load()).toEqual(emptyConversation)
    expect(conversationStorage(null, 'token').load()).toEqual(emptyConversation)
  })
})
