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

  /** In the place of what was typed behind the mark. */
  function put(words: string): void {
    if (typed.value) replace(typed.value, words)
  }

  /** Where the caret is, or in the place of what is selected. */
  function insert(words: string): void {
    const element = field()
    const end = text.value.length
    replace({ from: element?.selectionStart ?? end, to: element?.selectionEnd ?? end }, words)
  }

  function replace(place: { from: number; to: number }, words: string): void {
    const after = chosen(text.value, place, words)
    text.value = after.text
    typed.value = null
    void nextTick(() => {
      field()?.focus()
      field()?.setSelectionRange(after.caret, after.caret)
    })
  }

  return { typed, look, dismiss, put, insert }
}
