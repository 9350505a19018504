/** Whole numbers as people type them, within their bounds; pure. */

export interface Bounds {
  min: number
  max: number
}

/** The number, or null for what is none or out of bounds. */
export function wholeOf(text: string, { min, max }: Bounds): number | null {
  const trimmed = text.trim()
  if (!/^\d{1,9}$/.test(trimmed)) return null
  const number = Number(trimmed)
  return number < min || number > max ? null : number
}
