/** How it was, as stars in a message: what a visitor chose, and what everybody sees that they chose. */

export const BEST = 5

/** So many full stars in a line of their own, and below them what else there is to say. */
export function inStars(score: number, words: string): string {
  const line = '★'.repeat(score) + '☆'.repeat(BEST - score)
  return [line, words.trim()].filter(Boolean).join('\n')
}
