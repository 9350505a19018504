/** Why the server said no to what people do in the inbox, in the reader's language. */

import { describeProblem } from '../../api/problem'
import type { ApiError } from '../../api/problem'

const WITH_WORDS: ReadonlySet<string> = new Set([
  'agent_away',
  'assists_at_once',
  'contact_erased',
  'conversation_closed',
  'member_cannot_answer',
  'model_failed',
  'no_model',
  'not_owner',
  'not_resendable',
  'not_unconfirmed',
  'owned_by_other',
  'owner_changed',
  'routing_off',
])

export function describeRefusal(error: ApiError, t: (key: string) => string): string {
  return WITH_WORDS.has(error.code) ? t(`inboxRefusal.${error.code}`) : describeProblem(error, t)
}
