/** The tenant's question-and-answer list, read and written as a whole. */

import { api } from '../api/api'
import type { Answer } from '../api/types'

export async function getAnswers(signal: AbortSignal): Promise<Answer[]> {
  const { items } = await api.get<{ items: Answer[] }>('/answers', { signal })
  return items.map(({ question, answer }) => ({ question, answer }))
}

export async function putAnswers(items: Answer[]): Promise<void> {
  await api.put('/answers', { body: { items } })
}
