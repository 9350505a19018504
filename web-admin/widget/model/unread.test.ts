import { describe, expect, it } from 'vitest'
import { nextTick, ref, shallowRef } from 'vue'
import { emptyConversation } from './conversation'
import type { Conversation } from './conversation'
import type { SenderKind } from './protocol'
import { countNew, useUnread } from './unread'

function withMessages(...kinds: SenderKind[]): Conversation {
  const messages = kinds.map((kind, index) => ({
    id: `m${index}`,
    sender: { kind, name: null },
    segments: [],
    at: '',
    clientId: null,
    provisional: false,
  }))
  return { ...emptyConversation, messages, lastId: messages.at(-1)?.id ?? null }
}

describe('countNew', () => {
  it('counts answers, not the visitor’s own messages', () => {
    expect(countNew(withMessages('bot'), withMessages('bot', 'visitor', 'bot', 'human'))).toBe(2)
  })

  it('counts nothing on the first view', () => {
    expect(countNew(emptyConversation, withMessages('bot', 'bot'))).toBe(0)
  })
})

describe('useUnread', () => {
  it('counts while nobody looks and forgets when somebody does', async () => {
    const conversation = shallowRef(withMessages('bot'))
    const isLooking = ref(false)
    const unread = useUnread(conversation, isLooking)
    conversation.value = withMessages('bot', 'bot')
    expect(unread.value).toBe(1)
    isLooking.value = true
    await nextTick()
    expect(unread.value).toBe(0)
    conversation.value = withMessages('bot', 'bot', 'human')
    expect(unread.value).toBe(0)
  })
})
