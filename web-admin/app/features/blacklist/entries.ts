/** People to block, as they are pasted: one id of a platform a line. */

/** As many as one call takes. */
export const MAX_AT_ONCE = 500

export function idsIn(text: string): string[] {
  return [...new Set(text.split('\n').map((line) => line.trim()).filter(Boolean))]
}
