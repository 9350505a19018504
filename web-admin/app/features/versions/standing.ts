/** What the five numbers of an instance say of one of its versions. */

import type { Revision, Standing } from './api'

/** The built-in document, which is no revision of anybody's. */
export const BUILT_IN = 0

export type Mark = 'desired' | 'applied' | 'lastGood' | 'rejected'

export function marksOf(number: number, standing: Standing): Mark[] {
  const marks: [Mark, number | null][] = [
    ['desired', standing.desired],
    ['applied', standing.applied],
    ['lastGood', standing.last_good],
    ['rejected', standing.rejected],
  ]
  return marks.filter(([, at]) => at === number).map(([mark]) => mark)
}

/** What a version is compared with: the one in force, or for that one the one before it. */
export function comparedWith(number: number, standing: Standing): number | null {
  const inForce = standing.applied ?? standing.desired
  return number === inForce ? null : inForce
}

export function mayPublish({ published_at: publishedAt }: Revision): boolean {
  return publishedAt === null
}

/** Back to what was published before; the one that is wanted already needs no way back. */
export function mayRollBack({ number, published_at: publishedAt }: Revision, { desired }: Standing): boolean {
  return publishedAt !== null && number !== desired
}
