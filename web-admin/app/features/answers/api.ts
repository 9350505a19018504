/** The tenant's question-and-answer list, read and written as a whole. */

import { api } from '../../api/api'
import type { Answer, Page } from '../../api/types'

/** The server's largest page. */
const PAGE_SIZE = 200

/** All of it, however many pages: saving the list deletes what is not in it. */
export async function getAnswers(signal: AbortSignal): Promise<Answer[]> {
  const answers: Answer[] = []
  let cursor: string | null = null
  do {
    const query = { cursor, limit: PAGE_SIZE }
    const page: Page<Answer> = await api.get('/answers', { query, signal })
    answers.push(...page.items.map(({ question, answer }) => ({ question, answer })))
    cursor = page.next ?? null
  } while (cursor !== null)
  return answers
}

export async function putAnswers(items: Answer[]): Promise<void> {
  await api.put('/answers', { body: { items } })
}
