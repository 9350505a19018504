/** What a model is saying in one conversation, until it is a message. */

import { computed, onScopeDispose, shallowRef } from 'vue'
import type { Message } from '../../api/types'
import type { AnsweringNote } from '../../realtime/frames'
import { hub } from '../../realtime/live'
import { isToCome } from './thread'

export function useAnswering(id: string, owner: () => string, messages: () => readonly Message[]) {
  const heard = shallowRef<AnsweringNote['data'] | null>(null)
  let forgetting: ReturnType<typeof setTimeout> | undefined

  const leave = hub.onNote(({ type, data }) => {
    if (type !== 'answering' || data.conversation_id !== id) return
    heard.value = data
    clearTimeout(forgetting)
    forgetting = setTimeout(() => (heard.value = null), data.ttl_s * 1_000)
  })
  onScopeDispose(() => {
    leave()
    clearTimeout(forgetting)
  })

  return computed(() =>
    heard.value && isToCome(owner(), messages(), heard.value.through_number) ? heard.value.text : '',
  )
}
