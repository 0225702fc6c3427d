// Sends each form once: a second click before the response does nothing. The stack ignores a second payment anyway.
for (const form of document.forms) {
  form.addEventListener('submit', event => {
    if (form.ariaBusy === 'true') event.preventDefault();
    form.ariaBusy = 'true';
  });
}

// A page that returns from the back-forward cache has buttons that work again.
addEventListener('pageshow', () => {
  for (const form of document.forms) form.ariaBusy = null;
});

// Screen readers announce changes of a status, not a status that a page starts with.
const note = document.getElementById('note');
if (note) {
  const text = note.textContent;
  note.textContent = '';
  setTimeout(() => { note.textContent = text; }, 100);
}
