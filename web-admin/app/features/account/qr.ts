/** A text as the squares of a QR code; pure. */

import { encode } from 'uqr'

/** Squares without ink on each side: what readers ask for. */
const QUIET_ZONE = 4

export interface Squares {
  /** Of one side, the quiet zone included. */
  size: number
  /** One stroke of a square's height for each run of ink, as an SVG path. */
  path: string
}

/** Middle correction: read off screens, where little gets lost. */
export function squaresOf(text: string): Squares {
  const { data, size } = encode(text, { ecc: 'M', border: QUIET_ZONE })
  return { size, path: data.map((row, y) => runsOf(row, y)).join('') }
}

function runsOf(row: boolean[], y: number): string {
  const starts = row.flatMap((ink, x) => (ink && !row[x - 1] ? [x] : []))
  return starts.map((x) => `M${x} ${y + 0.5}h${row.slice(x).findIndex((ink) => !ink)}`).join('')
}
