/** The words for states that the server names; one that we do not know is shown as it is. */

import { useI18n } from 'vue-i18n'

/** Each is an area in the locales. */
export type Vocabulary =
  | 'actor'
  | 'auditTarget'
  | 'became'
  | 'choice'
  | 'condition'
  | 'decision'
  | 'delivery'
  | 'drift'
  | 'failure'
  | 'happened'
  | 'letterReason'
  | 'outcome'
  | 'owner'
  | 'permission'
  | 'phase'
  | 'presence'
  | 'queue'
  | 'quotaName'
  | 'reason'
  | 'roleName'
  | 'rolloutReason'
  | 'rolloutState'
  | 'setting'
  | 'tenantState'
  | 'turned'
  | 'via'
  | 'webhookEvent'
  | 'workKind'

export function useVocabulary() {
  const { t, te } = useI18n()
  return (vocabulary: Vocabulary, word: string): string => {
    const key = `${vocabulary}.${word}`
    return te(key) ? t(key) : word
  }
}
