// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { effectScope, shallowRef } from 'vue'
import type { Message } from '../../api/types'
import { hub } from '../../realtime/live'
import { message } from './conversation.fixture'
import { useAnswering } from './useAnswering'

describe('useAnswering', () => {
  const messages = shallowRef<Message[]>([])
  const scope = effectScope()
  let words: ReturnType<typeof useAnswering> | undefined

  beforeEach(() => {
    vi.useFakeTimers()
    messages.value = [message(3)]
    words = scope.run(() => useAnswering('c', () => 'bot', () => messages.value))
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  const says = (text: string, conversation_id = 'c') => {
    hub.receive({ type: 'note', event: { type: 'answering', data: { conversation_id, through_number: 3, text, ttl_s: 60 } } })
  }

  it('grows with the newest words until they are a message', () => {
    says('We')
    says('We open')
    says('elsewhere', 'd')
    expect(words?.value).toBe('We open')
    messages.value = [message(3), message(4, { sender: { kind: 'bot', id: null, name: null } })]
    expect(words?.value).toBe('')
  })

  it('is forgotten when nobody goes on', () => {
    says('We')
    vi.advanceTimersByTime(59_000)
    says('We open')
    vi.advanceTimersByTime(59_000)
    expect(words?.value).toBe('We open')
    vi.advanceTimersByTime(1_000)
    expect(words?.value).toBe('')
  })

  it('hears nothing any more once the thread is closed', () => {
    scope.stop()
    says('We')
    expect(words?.value).toBe('')
  })
})
