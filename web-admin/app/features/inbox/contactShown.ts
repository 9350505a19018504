/** Whether the contact is shown beside the thread; kept in this browser. */

import { ref, watch } from 'vue'

const KEY = 'botyard.contact'

export const isContactShown = ref(localStorage.getItem(KEY) === 'shown')
watch(isContactShown, (isShown) => {
  localStorage.setItem(KEY, isShown ? 'shown' : 'hidden')
})
