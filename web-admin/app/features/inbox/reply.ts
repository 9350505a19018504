/** A reply on its way: the same text keeps its key until it was accepted, so it is sent once. */

import { ref } from 'vue'
import { newUuid } from '../../../kit/uuid'
import { useAction } from '../../async/action'
import type { Action } from '../../async/action'

export function useReply(send: (text: string, key: string) => Promise<void>) {
  const draft = ref('')
  let attempt: { text: string; key: string } | null = null

  const sending: Action<[]> = useAction(async () => {
    const text = draft.value.trim()
    if (text === '') return
    if (attempt?.text !== text) attempt = { text, key: newUuid() }
    await send(text, attempt.key)
    attempt = null
    // What was typed meanwhile stays.
    if (draft.value.trim() === text) draft.value = ''
  })
  return { draft, ...sending }
}
