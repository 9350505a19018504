/** What is being written in one conversation: a text that outlives the page, and files. */

import { ref, shallowRef, watch } from 'vue'
import { ApiError } from '../../api/problem'
import { draftsIn } from '../../drafts'
import { signedIn } from '../../signedIn'
import { upload } from './attachment'
import type { Attachment } from './attachment'
import type { Outbox } from './outbox'

/** Of one message; the server takes fifty pieces. */
const MAX_ATTACHMENTS = 10

/** `seen`: the last message that its author has before their eyes. */
export function useComposer(id: string, outbox: Outbox, seen: () => number | null) {
  const drafts = draftsIn(localStorage, signedIn.me.value?.member_id ?? '', Date.now)
  const text = ref(drafts.read(id))
  const attachments = shallowRef<readonly Attachment[]>([])
  const uploading = ref(0)
  const error = shallowRef<ApiError | null>(null)

  watch(text, (now) => {
    drafts.write(id, now)
  })

  async function attach(files: Iterable<File>): Promise<void> {
    error.value = null
    const room = MAX_ATTACHMENTS - attachments.value.length - uploading.value
    await Promise.all([...files].slice(0, room).map((file) => attachOne(file)))
  }

  async function attachOne(file: File): Promise<void> {
    uploading.value += 1
    try {
      const attachment = await upload(file)
      attachments.value = [...attachments.value, attachment]
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure
      error.value = failure
    } finally {
      uploading.value -= 1
    }
  }

  function detach(attachment: Attachment): void {
    attachments.value = attachments.value.filter((one) => one !== attachment)
  }

  /** Whether there was something to send. */
  function send(): boolean {
    const said = text.value.trim()
    if (uploading.value > 0 || (said === '' && attachments.value.length === 0)) return false
    void outbox.add(said, attachments.value, seen())
    text.value = ''
    attachments.value = []
    return true
  }

  /** Words that somebody chose, in a place of their own behind what is written. */
  function append(words: string): void {
    text.value = [text.value.trimEnd(), words].filter(Boolean).join('\n')
  }

  /** A refused reply, to be changed; what was written meanwhile stays. */
  function takeBack(key: string): void {
    const reply = outbox.takeBack(key)
    if (!reply) return
    text.value = [reply.text, text.value].filter(Boolean).join('\n')
    attachments.value = [...reply.attachments, ...attachments.value].slice(0, MAX_ATTACHMENTS)
  }

  return { text, attachments, uploading, error, attach, detach, send, append, takeBack }
}
