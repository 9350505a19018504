/** Follows what somebody types behind a mark in a field. */

import { nextTick, shallowRef } from 'vue'
import type { Ref } from 'vue'
import { chosen, typedAt } from './typed'
import type { Mark, Typed } from './typed'

export function useTyped(text: Ref<string>, field: () => HTMLTextAreaElement | undefined, mark: Mark) {
  const typed = shallowRef<Typed | null>(null)
  /** Where somebody said that they mean no list. */
  let dismissed = -1

  function look(): void {
    const element = field()
    const found = element ? typedAt(element.value, element.selectionStart, mark) : null
    if (found?.from !== dismissed) dismissed = -1
    typed.value = found?.from === dismissed ? null : found
  }

  function dismiss(): void {
    dismissed = typed.value?.from ?? -1
    typed.value = null
  }

  function put(words: string): void {
    if (!typed.value) return
    const after = chosen(text.value, typed.value, words)
    text.value = after.text
    typed.value = null
    void nextTick(() => {
      field()?.focus()
      field()?.setSelectionRange(after.caret, after.caret)
    })
  }

  return { typed, look, dismiss, put }
}
