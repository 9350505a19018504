/** Why a channel is as it is: agents' own sentences in the reader's language, the platform's as they are. */

import { computed } from 'vue'
import type { ComputedRef } from 'vue'
import { useI18n } from 'vue-i18n'
import sentences from './reasons.json'

export interface Reason {
  code: string
  /** What stands in the sentence's places. */
  values: Record<string, string>
}

const KNOWN = Object.entries(sentences).map(([code, sentence]) => ({ code, pattern: patternOf(sentence) }))

/** Which of the known sentences it is; null for a platform's or an adapter's own. */
export function reasonIn(text: string): Reason | null {
  for (const { code, pattern } of KNOWN) {
    const match = pattern.exec(text)
    if (match) return { code, values: { ...match.groups } }
  }
  return null
}

export function useChannelReason(text: () => string | null): ComputedRef<string> {
  const { t } = useI18n()
  return computed(() => {
    const said = text() ?? ''
    const reason = reasonIn(said)
    return reason ? t(`channelReason.${reason.code}`, reason.values) : said
  })
}

function patternOf(sentence: string): RegExp {
  const escaped = sentence.replace(/[.*+?^$()|[\]\\]/g, String.raw`\$&`)
  return new RegExp(`^${escaped.replace(/\{(\w+)\}/g, '(?<$1>.+)')}$`, 's')
}
