/** A moment in the reader's language, as short as it may be. */

import { useI18n } from 'vue-i18n'
import { describeTime } from '../../kit/time'

export function useTime() {
  const { locale } = useI18n()
  return (at: string | null): string => (at === null ? '' : describeTime(at, Date.now(), locale.value))
}

/** The end of a day that was chosen in the reader's zone; null for none. */
export function endOfDay(day: string): string | null {
  const end = new Date(`${day}T23:59:59`)
  return Number.isNaN(end.getTime()) ? null : end.toISOString()
}

/** The first moment of such a day. */
export function startOfDay(day: string): string | null {
  const start = new Date(`${day}T00:00:00`)
  return Number.isNaN(start.getTime()) ? null : start.toISOString()
}
