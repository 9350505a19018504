/** What somebody looks for; kept while they open what was found, until they sign out. */

import { shallowRef, watch } from 'vue'
import { signedIn } from '../../signedIn'

export interface Asked {
  readonly text: string
  readonly contact: { readonly id: string; readonly name: string } | null
  readonly channelId: string
  readonly memberId: string
  /** Days in the reader's zone, such as `2026-11-22`; empty for none. */
  readonly from: string
  readonly to: string
}

export const NOTHING: Asked = { text: '', contact: null, channelId: '', memberId: '', from: '', to: '' }

/** The server looks for no single character. */
export const MIN_TEXT = 2
export const MAX_TEXT = 200

export const asked = shallowRef<Asked>(NOTHING)
watch(signedIn.me, (me) => {
  if (me === null) asked.value = NOTHING
})

export function isWhole({ text }: Asked): boolean {
  return text.normalize('NFKC').trim().length >= MIN_TEXT
}
