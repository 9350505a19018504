/** The list as it is being edited: rows keep a key while they move, empty rows are never saved. */

import { computed, ref } from 'vue'
import type { Answer } from '../../api/types'

export type Row = Answer & { key: number }

export function useAnswersDraft() {
  const rows = ref<Row[]>([])
  const saved = ref('[]')
  let lastKey = 0

  const answers = computed(() => rows.value.map(trimmed).filter(isWritten))
  const isChanged = computed(() => JSON.stringify(answers.value) !== saved.value)
  const isComplete = computed(() => answers.value.every(({ question, answer }) => question && answer))

  function add(answer: Answer = { question: '', answer: '' }): void {
    rows.value.push({ ...answer, key: (lastKey += 1) })
  }

  function remove(key: number): void {
    rows.value = rows.value.filter((row) => row.key !== key)
  }

  function reset(items: Answer[]): void {
    rows.value = []
    for (const item of items) add(item)
    markSaved(items)
  }

  function markSaved(items: Answer[]): void {
    saved.value = JSON.stringify(items.map(trimmed))
  }

  return { rows, answers, isChanged, isComplete, add, remove, reset, markSaved }
}

function trimmed({ question, answer }: Answer): Answer {
  return { question: question.trim(), answer: answer.trim() }
}

function isWritten({ question, answer }: Answer): boolean {
  return question !== '' || answer !== ''
}
