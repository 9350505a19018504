/** A moment in the reader's language, as short as it may be. */

import { useI18n } from 'vue-i18n'
import { describeTime } from '../../kit/time'

export function useTime() {
  const { locale } = useI18n()
  return (at: string | null): string => (at === null ? '' : describeTime(at, Date.now(), locale.value))
}
